"""Mutated files of every format that the zoo reads: each must be refused with one clear error, or read; nothing else.

``make test`` tries a few hundred of each format, ``make fuzz`` 20,000 and records what came of them in results/fuzz.csv.
"""
