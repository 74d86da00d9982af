"""Remove what no output depends on."""

from __future__ import annotations

from verifykit_export.network import Network, reads


def drop_dead(network: Network) -> None:
    """Remove nodes, constants and inputs that nothing reads, and inputs that only name a constant.

    Files of before 2019, and what was made of them, list every weight as an input of the graph.
    """
    needed = {item.name for item in network.outputs}
    for node in reversed(network.nodes):
        if needed & set(node.output):
            needed |= reads(node)
    network.nodes = [node for node in network.nodes if needed & set(node.output)]
    network.constants = {name: value for name, value in network.constants.items() if name in needed}
    network.inputs = [
        item
        for item in network.inputs
        if item.name in needed and item.name not in network.constants
    ]
