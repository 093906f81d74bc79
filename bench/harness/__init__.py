"""Runs programs on ACE and on its rivals, and keeps and compares what they took; see bench/README.md.

errors      what a user can put right
peers       the allocators, and how each gets into each VM
programs    what is run: hosts, programs and their sizes
cpython     pyperformance's programs, and the environments that they need
matrix      in which order, and what is left to do
measure     one run
results     the raw files
machine     what the figures depend on
compare     ratios and their intervals
targets     what ACE is to reach
report      tables
pictures    PNG files
cli         the command
"""
