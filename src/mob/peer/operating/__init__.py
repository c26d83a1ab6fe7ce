"""An app as an operator sees it: how to reach it, its roster, and the requests that its Kingpin answers."""
