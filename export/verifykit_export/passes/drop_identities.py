"""Remove nodes that hand their input on unchanged."""

from __future__ import annotations

import onnx

from verifykit_export.network import Network, rename_reads


def drop_identities(network: Network) -> None:
    """Remove ``Identity``, and ``Dropout`` outside training."""
    for node in list(network.nodes):
        if _hands_on(network, node):
            source, target = node.input[0], node.output[0]
            if not any(item.name == target for item in network.outputs):
                network.replace_node(node, [])
                network.read_instead(target, source)
            elif _rename(network, source, target):
                network.replace_node(node, [])


def _hands_on(network: Network, node: onnx.NodeProto) -> bool:
    if node.op_type == "Identity":
        return True
    if node.op_type != "Dropout" or any(node.output[1:]):
        return False
    training = network.constant(node, 2)
    return len(node.input) < 3 or not node.input[2] or (training is not None and not training)


def _rename(network: Network, source: str, target: str) -> bool:
    """Let the producer of ``source`` write the output ``target``; False if it must keep its name."""
    producer = network.producer(source)
    if producer is None or any(item.name == source for item in network.outputs):
        return False
    producer.output[list(producer.output).index(source)] = target
    for reader in network.consumers(source):
        if reader.output[0] != target:
            rename_reads(reader, source, target)
    return True
