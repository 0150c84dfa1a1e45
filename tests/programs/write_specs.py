"""write_specs URL PREFIX NETWORK_ID NAME: create and delete endpoints and networks until it is killed. Prints "works" after the third, and
"ERROR ..." for each refusal."""

from __future__ import annotations

import random
import sys

from specs.store.etcd import Store
from specs.store.repository import Repository
from warren.errors import WarrenError

url, prefix, network_id, name = sys.argv[1:]
specs, endpoint_ids, number = Repository(Store([url], prefix=prefix)), [], 0
while True:
    number += 1
    try:
        endpoint = specs.create_endpoint({"network_id": network_id, "host": f"h{number % 2}", "name": f"{name}-{number}"})[0]
        endpoint_ids.append(endpoint.id)
        if number % 4 == 0:
            network, _ = specs.create_network({"name": f"{name}-{number}", "ip_range": "10.9.0.0/24"})
            if number % 8 == 0:
                specs.delete_network(network.id)
        if len(endpoint_ids) > 6:
            specs.delete_endpoint(network_id, endpoint_ids.pop(random.randrange(len(endpoint_ids))))
    except WarrenError as error:
        print("ERROR", error, flush=True)
    if number == 3:
        print("works", flush=True)
