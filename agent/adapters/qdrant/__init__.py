"""A Qdrant server over its REST API: what it holds, how it is, and its snapshots.

Facts about the API are Qdrant's own source (src/actix/api/snapshot_api.rs and its neighbours), tried on a real server.
"""
