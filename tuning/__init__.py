"""hardneg.tuning"""
