"""hardneg.models.kernels"""
