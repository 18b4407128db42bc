"""Attacks on the HTTP surface: tables of what an attacker sends, and the tests that send it.

`python -m tests.attacks` lists the tables and runs them against a server in the process;
`torture.py` goes on with random attacks for as long as it is told.
"""
