"""hardneg.datasets"""
