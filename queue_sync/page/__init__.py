"""The status page: a cluster at one moment -> one JSON view (`model`, `boards`), and the site that shows it live.

`model` and `boards` are pure. `feed` knows when there is something new, `site` answers HTTP, `static` is what a browser
loads. Nothing here writes to a cluster.
"""
