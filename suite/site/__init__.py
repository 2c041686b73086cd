"""The static site: leaderboards, figures and a page for every record, readable from disk without a network."""
