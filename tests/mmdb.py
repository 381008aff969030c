# Writes databases of addresses in MaxMind's format, for tests: lines of JSON come in, `{"path", "networks": [[network,
# what is known of it]...]}`, and each is answered by `"written"`.
import json
import sys

from mmdb_writer import MMDBWriter
from netaddr import IPSet

for line in sys.stdin:
    asked = json.loads(line)
    writer = MMDBWriter(6, "naru-tests", languages=["en"], ipv4_compatible=True, int_type="auto")
    for network, known in asked["networks"]:
        writer.insert_network(IPSet([network]), known)
    writer.to_db_file(asked["path"])
    print(json.dumps("written"), flush=True)
