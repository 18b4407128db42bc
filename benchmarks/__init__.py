"""How fast, beside what the same machine can do without Stepflow.

One script a published figure; each measures its yardstick in the same run, alternating:

- `catalog.py` lists the scripts, `rows.py` the published figures, each with its yardstick and goal;
- `__main__.py` runs them (`python -m benchmarks`) and `results.py` keeps what they gave;
- `compare.py` says each ratio then and now; `table.py`, `charts.py` and `plots.py` put the results
  into the documents;
- `meters.py` reads what processes and a PostgreSQL have used; `capacity.py` computes deployments;
- `report.py` says where a figure was taken and how it spread; `workload.py` is what is measured.

`--quick` only shows that they work. Machines differ and are noisy: read the ratios, and the spread
of at least three repeats.
"""
