"""The commands of `ebbtide`, one file each.

A command reads its options, says what is wrong with them, and hands on; what it does stands elsewhere. It
imports that only when it runs, so that `--help` is quick and a fault in one command leaves the others usable.
"""
