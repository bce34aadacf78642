"""hardneg.engine.losses"""
