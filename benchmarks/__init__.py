"""How fast, beside what the same machine can do without Stepflow.

One script a published figure; each measures its yardstick in the same run, alternating:

=============== ======================================= =====================================
script          figure                                  yardstick
=============== ======================================= =====================================
http_triggers   durable triggers a second over HTTP     a bare Starlette JSON echo, same uvicorn
in_process      runs of three steps a second            a bare loop; the disk's syncs
fan_out         events a second to 1,000 subscribers    plain ASGI `send` of shared bytes
recovery        records a second until it serves        reading and parsing the same records
=============== ======================================= =====================================

`python -m benchmarks` runs them all and writes `results.json`; `--quick` only shows that they work.
Machines differ and are noisy: read the ratios, and the spread of at least three repeats.
"""
