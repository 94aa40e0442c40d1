"""What is done to a running group's topics from outside: look up, verify, send again, move, erase.

Every command here reads committed records only, joins no group of the workers unless it must keep them out,
and writes, where it writes, in transactions of its own: interrupted at any point, it can be run again.
"""
