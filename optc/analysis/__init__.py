"""Read-only views of the graph, computed when asked."""
