"""What a launch decided on comes back whole for its jobs."""

import yaml
from ionraman.campaign import load_campaign, read_snapshot, write_snapshot


def test_a_snapshot_is_the_campaign(root, tmp_path):
    config = yaml.safe_load((root / "config/config.yaml").read_text())
    config["select"] = {"names": [], "tags": []}  # all rows, with their overrides, temperatures and tags
    campaign = load_campaign(config, root)
    packs, digests = {"0001": campaign.runs()[:2], "0002": campaign.runs()[2:]}, {"force": "a" * 64}
    path = write_snapshot(campaign, packs, ["0002"], digests, tmp_path)
    assert read_snapshot(path) == (campaign, packs, ["0002"], digests)
    assert write_snapshot(campaign, packs, ["0002"], digests, tmp_path) == path
    assert write_snapshot(campaign, packs, ["0002"], {"force": "b" * 64}, tmp_path) != path
