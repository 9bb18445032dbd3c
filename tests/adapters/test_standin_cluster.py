"""The stand-in as a cluster of several peers."""

import io
import tarfile
from pathlib import Path

from standin import Cluster
from standin.client import Client, path_of, path_of_snapshot

CONFIG = {"vectors": {"size": 4, "distance": "Dot"}, "replication_factor": 2}
POINTS = [{"id": n, "vector": [n, 1, 0, 0]} for n in range(6)]


def test_a_cluster_keeps_what_each_peer_holds(tmp_path: Path) -> None:
    with Cluster(tmp_path, 3) as cluster, Client(cluster.peers[0].url) as client:
        assert client.ask("PUT", path_of("c"), {**CONFIG, "shard_number": 3}).result
        assert client.ask("PUT", path_of("c", "/points?wait=true"), {"points": POINTS}).result
        one, two, three = cluster.peers
        told = client.ask("GET", "/cluster").result
        assert (told["status"], told["peer_id"], len(told["peers"])) == ("enabled", one.peer_id, 3)
        cluster.set_state("c", 0, two, "Dead")
        said = client.ask("GET", path_of("c", "/cluster")).result
        assert [(shard["shard_id"], shard["state"]) for shard in said["local_shards"]] == [(0, "Active"), (2, "Active")]
        assert {"shard_id": 0, "peer_id": two.peer_id, "state": "Dead"} in said["remote_shards"]
        assert "collection_dead_replicas 1\n" in client.ask("GET", "/metrics").body.decode()
        name = client.ask("POST", path_of("c", "/snapshots")).result["name"]
        reply = client.ask("GET", path_of_snapshot("c", name))
        with tarfile.open(fileobj=io.BytesIO(reply.body)) as archive:
            held = {name.split("/")[0] for name in archive.getnames() if "/segments/" in name}
            state = archive.extractfile("1/replica_state.json")
            assert state is not None
            text = state.read().decode()
        assert held == {"0", "2"}
        assert text.startswith(f'{{"is_local":false,"this_peer_id":{one.peer_id},"peers":{{')
        three.stop()
        assert client.ask("POST", path_of("c", "/points/count"), {}).result["count"] == 6
        two.stop()
        assert client.ask("POST", path_of("c", "/points/count"), {}).status == 500
        assert len(client.ask("GET", "/cluster").result["message_send_failures"]) == 2


def test_a_peer_that_was_down_misses_what_was_written(tmp_path: Path) -> None:
    with Cluster(tmp_path, 2) as cluster, Client(cluster.peers[0].url) as client:
        assert client.ask("PUT", path_of("c"), CONFIG).result
        cluster.peers[1].stop()
        assert client.ask("PUT", path_of("c", "/points?wait=true"), {"points": POINTS}).result
        cluster.peers[1].start()
        said = client.ask("GET", path_of("c", "/cluster")).result
        assert [shard["state"] for shard in said["remote_shards"]] == ["Dead"]
        with Client(cluster.peers[1].url) as second:
            local = second.ask("GET", path_of("c", "/cluster")).result["local_shards"]
            assert [shard["points_count"] for shard in local] == [0]
            assert second.ask("POST", path_of("c", "/points/count"), {}).result["count"] == 6


def test_shard_keys_have_shards_of_their_own(tmp_path: Path) -> None:
    with Cluster(tmp_path, 3) as cluster, Client(cluster.peers[0].url) as client:
        config = {"vectors": {"size": 4, "distance": "Dot"}, "sharding_method": "custom"}
        assert client.ask("PUT", path_of("c"), config).result
        assert client.ask("PUT", path_of("c", "/shards"), {"shard_key": "berlin"}).result
        assert client.ask("PUT", path_of("c", "/shards"), {"shard_key": 7, "shards_number": 2}).result
        assert client.ask("GET", path_of("c", "/shards")).result == {"shard_keys": [{"key": "berlin"}, {"key": 7}]}
        upsert = path_of("c", "/points?wait=true")
        refused = client.ask("PUT", upsert, {"points": POINTS})
        assert (refused.status, refused.json["status"]["error"]) == (400, "Wrong input: Shard key not specified")
        assert client.ask("PUT", upsert, {"points": POINTS, "shard_key": 7}).result
        said = client.ask("GET", path_of("c", "/cluster")).result
        keys = {shard["shard_id"]: shard["shard_key"] for shard in said["local_shards"] + said["remote_shards"]}
        assert keys == {1: "berlin", 2: 7, 3: 7}
        name = client.ask("POST", path_of("c", "/snapshots")).result["name"]
        with tarfile.open(fileobj=io.BytesIO(client.ask("GET", path_of_snapshot("c", name)).body)) as archive:
            mapping = archive.extractfile("shard_key_mapping.json")
            assert mapping is not None
            assert mapping.read() == b'[{"key":"berlin","shard_ids":[1]},{"key":7,"shard_ids":[2,3]}]'
