"""Runs programs on ACE and on its rivals, and keeps and compares what they took; see bench/README.md.

errors      what a user can put right, and runs that do not count
session     what all runs share: the core, the environment
peers       the allocators, and how each gets into each VM
programs    what is run: hosts, programs and their sizes
cpython     pyperformance's programs, and the environments that they need
matrix      in which order, and what is left to do
measure     one run
service     one run of a service, under load
figures     what was seen of a run, as figures
results     the raw files
machine     what the figures depend on
compare     ratios and their intervals
targets     what ACE is to reach
report      tables
pictures    PNG files
cli         the command
"""
