"""What a node says to CSI drivers and to plugins that register, as tables: message fields and methods, by their numbers and names.

Facts of the Container Storage Interface (container-storage-interface/spec, csi.v1) and of k8s.io/kubelet's pluginregistration/v1; only
what is used here. Imports protobuf, so this room is imported late.
"""

from __future__ import annotations

from collections.abc import Mapping

from minik8s.base.protobuf import messages

_STRINGS = "map<string, string>"

CSI = messages(
    {
        "Empty": [],
        "BlockVolume": [],
        "MountVolume": [("fs_type", 1, "string"), ("mount_flags", 2, "repeated string"), ("volume_mount_group", 3, "string")],
        "AccessMode": [("mode", 1, "int32")],
        "VolumeCapability": [("block", 1, "BlockVolume"), ("mount", 2, "MountVolume"), ("access_mode", 3, "AccessMode")],
        "NodeStageVolumeRequest": [
            ("volume_id", 1, "string"),
            ("publish_context", 2, _STRINGS),
            ("staging_target_path", 3, "string"),
            ("volume_capability", 4, "VolumeCapability"),
            ("secrets", 5, _STRINGS),
            ("volume_context", 6, _STRINGS),
        ],
        "NodeUnstageVolumeRequest": [("volume_id", 1, "string"), ("staging_target_path", 2, "string")],
        "NodePublishVolumeRequest": [
            ("volume_id", 1, "string"),
            ("publish_context", 2, _STRINGS),
            ("staging_target_path", 3, "string"),
            ("target_path", 4, "string"),
            ("volume_capability", 5, "VolumeCapability"),
            ("readonly", 6, "bool"),
            ("secrets", 7, _STRINGS),
            ("volume_context", 8, _STRINGS),
        ],
        "NodeUnpublishVolumeRequest": [("volume_id", 1, "string"), ("target_path", 2, "string")],
        "CapacityRange": [("required_bytes", 1, "int64"), ("limit_bytes", 2, "int64")],
        "NodeExpandVolumeRequest": [
            ("volume_id", 1, "string"),
            ("volume_path", 2, "string"),
            ("capacity_range", 3, "CapacityRange"),
            ("staging_target_path", 4, "string"),
            ("volume_capability", 5, "VolumeCapability"),
            ("secrets", 6, _STRINGS),
        ],
        "NodeExpandVolumeResponse": [("capacity_bytes", 1, "int64")],
        "RPC": [("type", 1, "int32")],
        "NodeServiceCapability": [("rpc", 1, "RPC")],
        "NodeGetCapabilitiesResponse": [("capabilities", 1, "repeated NodeServiceCapability")],
        "Topology": [("segments", 1, _STRINGS)],
        "NodeGetInfoResponse": [
            ("node_id", 1, "string"),
            ("max_volumes_per_node", 2, "int64"),
            ("accessible_topology", 3, "Topology"),
        ],
    },
    "minik8s.csi",
)

NODE_SERVICE = "csi.v1.Node"
NODE: Mapping[str, tuple[str, str]] = {
    "NodeStageVolume": ("NodeStageVolumeRequest", "Empty"),
    "NodeUnstageVolume": ("NodeUnstageVolumeRequest", "Empty"),
    "NodePublishVolume": ("NodePublishVolumeRequest", "Empty"),
    "NodeUnpublishVolume": ("NodeUnpublishVolumeRequest", "Empty"),
    "NodeExpandVolume": ("NodeExpandVolumeRequest", "NodeExpandVolumeResponse"),
    "NodeGetCapabilities": ("Empty", "NodeGetCapabilitiesResponse"),
    "NodeGetInfo": ("Empty", "NodeGetInfoResponse"),
}

PLUGINS = messages(
    {
        "InfoRequest": [],
        "PluginInfo": [
            ("type", 1, "string"),
            ("name", 2, "string"),
            ("endpoint", 3, "string"),
            ("supported_versions", 4, "repeated string"),
        ],
        "RegistrationStatus": [("plugin_registered", 1, "bool"), ("error", 2, "string")],
        "RegistrationStatusResponse": [],
    },
    "minik8s.pluginregistration",
)

REGISTRATION_SERVICE = "pluginregistration.Registration"
REGISTRATION: Mapping[str, tuple[str, str]] = {
    "GetInfo": ("InfoRequest", "PluginInfo"),
    "NotifyRegistrationStatus": ("RegistrationStatus", "RegistrationStatusResponse"),
}
