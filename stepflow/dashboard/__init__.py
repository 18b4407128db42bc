"""The dashboard: files that a browser loads, and nothing that runs here.

It talks the public API only, like every other client. No build step: what is in `static/` is what
the browser gets. No Starlette: `stepflow.web.pages` serves what `assets.py` reads.

How the pages name things, so that they are right under any prefix:

- `index.html` writes addresses as `./app.js`; they are served below the version of all files, so
  that they may be kept for ever (`assets.py`).
- Modules import one another by relative path, `./vendor/preact.js`. No import map: it would need a
  script in the page, which the Content-Security-Policy forbids.
- The API is at `base` of `base.js`: whatever stands before `/ui/` in the module's own address.
- Where the reader is stands behind the `#`, which no server sees: `/ui/#/runs/run_…`.
"""
