"""The table of searches by the name that a sweep file uses."""

from hushsweep.workers.bounds.search.paper import search_shifts

SEARCHES = {"paper": search_shifts}
