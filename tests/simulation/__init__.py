"""The simulator: whole groups of workers over one broker in memory, under faults that one seed chooses.

python -m tests.simulation --seed 42            one seed, told step by step if it fails
python -m tests.simulation --seeds 1..10000     many, and the table of what really happened
python -m tests.simulation --control NAME       break the protocol on purpose and see it caught

options.py     what a seed chooses, swarm style: each seed leaves most faults out
clicks.py      the producers: events clustered at thresholds, bad records, repeats, disorder, aborts
processes.py   a worker as a process: it dies, stands still, wakes up, is replaced
world.py       the scheduler: one step at a time, first under faults, then healing
truth.py       the oracle: the log and the journal folded record by record, and what must equal it
rows.py        users compared column by column
tiny_model.py  a model of four floats, so that there are lists and poison
controls.py    six ways to break the protocol
"""
