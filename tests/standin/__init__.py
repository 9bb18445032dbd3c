"""A stand-in for a Qdrant server: its REST API over the real embedded engine, and told to misbehave where asked."""

from standin.cluster import Cluster
from standin.faults import Fault
from standin.server import StandIn

__all__ = ["Cluster", "Fault", "StandIn"]
