"""hardneg.engine"""
