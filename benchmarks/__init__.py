"""Measurements that anybody can repeat: each module prints a table of ratios within one run."""
