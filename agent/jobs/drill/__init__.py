"""Drill: rehearse the restore of a collection, judge what came of it, and write that down."""
