"""The contents of a gallery, to compare before and after."""

from __future__ import annotations

import verifykit as vk


def contents(verifier: vk.Verifier) -> dict[str, list[bytes]]:
    return {
        subject_id: [t.embedding.tobytes() for t in verifier.gallery.get(subject_id).templates]
        for subject_id in verifier.gallery.subject_ids()
    }
