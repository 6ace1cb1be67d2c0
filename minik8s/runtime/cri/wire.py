"""CRI (runtime/v1) and the few calls of containerd's own API as tables: message fields and methods, by their numbers and names.

Facts of k8s.io/cri-api `runtime/v1/api.proto` and containerd's `api/services/*/v1`; only what is used here. Imports grpc, so this room is
imported late.
"""

from __future__ import annotations

from collections.abc import Mapping

from minik8s.base.protobuf import messages

_STRINGS = "map<string, string>"
_ID = [("container_id", 1, "string")]
_POD_ID = [("pod_sandbox_id", 1, "string")]

CRI = messages(
    {
        "Empty": [],
        "Int64Value": [("value", 1, "int64")],
        "UInt64Value": [("value", 1, "uint64")],
        "ContainerId": _ID,  # request of Start, Remove, ReopenLog; answer of Create
        "PodSandboxId": _POD_ID,  # request of Stop, Remove; answer of Run
        "Url": [("url", 1, "string")],
        # --- the runtime
        "VersionRequest": [("version", 1, "string")],
        "VersionResponse": [("runtime_name", 2, "string"), ("runtime_version", 3, "string")],
        "VerboseRequest": [("verbose", 1, "bool")],
        "RuntimeCondition": [("type", 1, "string"), ("status", 2, "bool"), ("reason", 3, "string"), ("message", 4, "string")],
        "RuntimeStatus": [("conditions", 1, "repeated RuntimeCondition")],
        "RuntimeHandlerFeatures": [("recursive_read_only_mounts", 1, "bool"), ("user_namespaces", 2, "bool")],
        "RuntimeHandler": [("name", 1, "string"), ("features", 2, "RuntimeHandlerFeatures")],
        "RuntimeFeatures": [("supplemental_groups_policy", 1, "bool")],
        "StatusResponse": [
            ("status", 1, "RuntimeStatus"),
            ("info", 2, _STRINGS),
            ("runtime_handlers", 3, "repeated RuntimeHandler"),
            ("features", 4, "RuntimeFeatures"),
        ],
        # --- sandboxes
        "DNSConfig": [("servers", 1, "repeated string"), ("searches", 2, "repeated string"), ("options", 3, "repeated string")],
        "PortMapping": [
            ("protocol", 1, "int32"),
            ("container_port", 2, "int32"),
            ("host_port", 3, "int32"),
            ("host_ip", 4, "string"),
        ],
        "IDMapping": [("host_id", 1, "uint32"), ("container_id", 2, "uint32"), ("length", 3, "uint32")],
        "UserNamespace": [("mode", 1, "int32"), ("uids", 2, "repeated IDMapping"), ("gids", 3, "repeated IDMapping")],
        "NamespaceOption": [
            ("network", 1, "int32"),
            ("pid", 2, "int32"),
            ("ipc", 3, "int32"),
            ("target_id", 4, "string"),
            ("userns_options", 5, "UserNamespace"),
        ],
        "SELinuxOption": [("user", 1, "string"), ("role", 2, "string"), ("type", 3, "string"), ("level", 4, "string")],
        "SecurityProfile": [("profile_type", 1, "int32"), ("localhost_ref", 2, "string")],
        "LinuxSandboxSecurityContext": [
            ("namespace_options", 1, "NamespaceOption"),
            ("privileged", 6, "bool"),
            ("seccomp", 9, "SecurityProfile"),
        ],
        "LinuxPodSandboxConfig": [
            ("cgroup_parent", 1, "string"),
            ("security_context", 2, "LinuxSandboxSecurityContext"),
            ("sysctls", 3, _STRINGS),
        ],
        "PodSandboxMetadata": [
            ("name", 1, "string"),
            ("uid", 2, "string"),
            ("namespace", 3, "string"),
            ("attempt", 4, "uint32"),
        ],
        "PodSandboxConfig": [
            ("metadata", 1, "PodSandboxMetadata"),
            ("hostname", 2, "string"),
            ("log_directory", 3, "string"),
            ("dns_config", 4, "DNSConfig"),
            ("port_mappings", 5, "repeated PortMapping"),
            ("labels", 6, _STRINGS),
            ("annotations", 7, _STRINGS),
            ("linux", 8, "LinuxPodSandboxConfig"),
        ],
        "RunPodSandboxRequest": [("config", 1, "PodSandboxConfig"), ("runtime_handler", 2, "string")],
        "PodIP": [("ip", 1, "string")],
        "PodSandboxNetworkStatus": [("ip", 1, "string"), ("additional_ips", 2, "repeated PodIP")],
        "PodSandboxStatus": [
            ("id", 1, "string"),
            ("metadata", 2, "PodSandboxMetadata"),
            ("state", 3, "int32"),
            ("created_at", 4, "int64"),
            ("network", 5, "PodSandboxNetworkStatus"),
            ("labels", 7, _STRINGS),
            ("annotations", 8, _STRINGS),
        ],
        "PodSandboxStatusResponse": [("status", 1, "PodSandboxStatus")],
        "PodSandbox": [
            ("id", 1, "string"),
            ("metadata", 2, "PodSandboxMetadata"),
            ("state", 3, "int32"),
            ("created_at", 4, "int64"),
            ("labels", 5, _STRINGS),
            ("annotations", 6, _STRINGS),
        ],
        "ListPodSandboxResponse": [("items", 1, "repeated PodSandbox")],
        # --- containers
        "ImageSpec": [("image", 1, "string"), ("user_specified_image", 18, "string")],
        "KeyValue": [("key", 1, "string"), ("value", 2, "bytes")],
        "Mount": [
            ("container_path", 1, "string"),
            ("host_path", 2, "string"),
            ("readonly", 3, "bool"),
            ("propagation", 5, "int32"),
            ("uidMappings", 6, "repeated IDMapping"),
            ("gidMappings", 7, "repeated IDMapping"),
            ("recursive_read_only", 8, "bool"),
            ("image", 9, "ImageSpec"),
            ("image_sub_path", 10, "string"),
        ],
        "Device": [("container_path", 1, "string"), ("host_path", 2, "string"), ("permissions", 3, "string")],
        "HugepageLimit": [("page_size", 1, "string"), ("limit", 2, "uint64")],
        "LinuxContainerResources": [
            ("cpu_period", 1, "int64"),
            ("cpu_quota", 2, "int64"),
            ("cpu_shares", 3, "int64"),
            ("memory_limit_in_bytes", 4, "int64"),
            ("oom_score_adj", 5, "int64"),
            ("cpuset_cpus", 6, "string"),
            ("cpuset_mems", 7, "string"),
            ("hugepage_limits", 8, "repeated HugepageLimit"),
            ("unified", 9, _STRINGS),
        ],
        "Capability": [("add_capabilities", 1, "repeated string"), ("drop_capabilities", 2, "repeated string")],
        "LinuxContainerSecurityContext": [
            ("capabilities", 1, "Capability"),
            ("privileged", 2, "bool"),
            ("namespace_options", 3, "NamespaceOption"),
            ("selinux_options", 4, "SELinuxOption"),
            ("run_as_user", 5, "Int64Value"),
            ("run_as_username", 6, "string"),
            ("readonly_rootfs", 7, "bool"),
            ("supplemental_groups", 8, "repeated int64"),
            ("no_new_privs", 11, "bool"),
            ("run_as_group", 12, "Int64Value"),
            ("masked_paths", 13, "repeated string"),
            ("readonly_paths", 14, "repeated string"),
            ("seccomp", 15, "SecurityProfile"),
            ("apparmor", 16, "SecurityProfile"),
            ("supplemental_groups_policy", 17, "int32"),
        ],
        "LinuxContainerConfig": [
            ("resources", 1, "LinuxContainerResources"),
            ("security_context", 2, "LinuxContainerSecurityContext"),
        ],
        "ContainerMetadata": [("name", 1, "string"), ("attempt", 2, "uint32")],
        "ContainerConfig": [
            ("metadata", 1, "ContainerMetadata"),
            ("image", 2, "ImageSpec"),
            ("command", 3, "repeated string"),
            ("args", 4, "repeated string"),
            ("working_dir", 5, "string"),
            ("envs", 6, "repeated KeyValue"),
            ("mounts", 7, "repeated Mount"),
            ("devices", 8, "repeated Device"),
            ("labels", 9, _STRINGS),
            ("annotations", 10, _STRINGS),
            ("log_path", 11, "string"),
            ("stdin", 12, "bool"),
            ("stdin_once", 13, "bool"),
            ("tty", 14, "bool"),
            ("linux", 15, "LinuxContainerConfig"),
            ("stop_signal", 18, "int32"),
        ],
        "CreateContainerRequest": [*_POD_ID, ("config", 2, "ContainerConfig"), ("sandbox_config", 3, "PodSandboxConfig")],
        "StopContainerRequest": [*_ID, ("timeout", 2, "int64")],
        "ContainerFilter": [("pod_sandbox_id", 3, "string")],
        "ListContainersRequest": [("filter", 1, "ContainerFilter")],
        "Container": [("id", 1, "string"), ("pod_sandbox_id", 2, "string"), ("state", 6, "int32")],
        "ListContainersResponse": [("containers", 1, "repeated Container")],
        "ContainerStatusRequest": [*_ID, ("verbose", 2, "bool")],
        "LinuxContainerUser": [("uid", 1, "int64"), ("gid", 2, "int64"), ("supplemental_groups", 3, "repeated int64")],
        "ContainerUser": [("linux", 1, "LinuxContainerUser")],
        "ContainerStatus": [
            ("id", 1, "string"),
            ("metadata", 2, "ContainerMetadata"),
            ("state", 3, "int32"),
            ("created_at", 4, "int64"),
            ("started_at", 5, "int64"),
            ("finished_at", 6, "int64"),
            ("exit_code", 7, "int32"),
            ("image", 8, "ImageSpec"),
            ("image_ref", 9, "string"),
            ("reason", 10, "string"),
            ("message", 11, "string"),
            ("labels", 12, _STRINGS),
            ("annotations", 13, _STRINGS),
            ("log_path", 15, "string"),
            ("user", 18, "ContainerUser"),
        ],
        "ContainerStatusResponse": [("status", 1, "ContainerStatus"), ("info", 2, _STRINGS)],
        "UpdateContainerResourcesRequest": [*_ID, ("linux", 2, "LinuxContainerResources")],
        "ExecSyncRequest": [*_ID, ("cmd", 2, "repeated string"), ("timeout", 3, "int64")],
        "ExecSyncResponse": [("stdout", 1, "bytes"), ("stderr", 2, "bytes"), ("exit_code", 3, "int32")],
        "ExecRequest": [
            *_ID,
            ("cmd", 2, "repeated string"),
            ("tty", 3, "bool"),
            ("stdin", 4, "bool"),
            ("stdout", 5, "bool"),
            ("stderr", 6, "bool"),
        ],
        "AttachRequest": [*_ID, ("stdin", 2, "bool"), ("tty", 3, "bool"), ("stdout", 4, "bool"), ("stderr", 5, "bool")],
        "PortForwardRequest": [*_POD_ID, ("port", 2, "repeated int32")],
        # --- what is going on
        "ContainerEventResponse": [
            *_ID,
            ("container_event_type", 2, "int32"),
            ("pod_sandbox_status", 4, "PodSandboxStatus"),
        ],
        "CpuUsage": [("timestamp", 1, "int64"), ("usage_core_nano_seconds", 2, "UInt64Value")],
        "MemoryUsage": [
            ("timestamp", 1, "int64"),
            ("working_set_bytes", 2, "UInt64Value"),
            ("usage_bytes", 4, "UInt64Value"),
            ("rss_bytes", 5, "UInt64Value"),
        ],
        "FilesystemIdentifier": [("mountpoint", 1, "string")],
        "FilesystemUsage": [
            ("timestamp", 1, "int64"),
            ("fs_id", 2, "FilesystemIdentifier"),
            ("used_bytes", 3, "UInt64Value"),
            ("inodes_used", 4, "UInt64Value"),
        ],
        "ContainerAttributes": [("id", 1, "string")],
        "ContainerStats": [
            ("attributes", 1, "ContainerAttributes"),
            ("cpu", 2, "CpuUsage"),
            ("memory", 3, "MemoryUsage"),
            ("writable_layer", 4, "FilesystemUsage"),
        ],
        "ListContainerStatsResponse": [("stats", 1, "repeated ContainerStats")],
        # --- images
        "Image": [
            ("id", 1, "string"),
            ("repo_tags", 2, "repeated string"),
            ("repo_digests", 3, "repeated string"),
            ("size", 4, "uint64"),
            ("uid", 5, "Int64Value"),
            ("username", 6, "string"),
            ("pinned", 8, "bool"),
        ],
        "ListImagesResponse": [("images", 1, "repeated Image")],
        "ImageRequest": [("image", 1, "ImageSpec"), ("verbose", 2, "bool")],  # of ImageStatus and RemoveImage
        "ImageStatusResponse": [("image", 1, "Image"), ("info", 2, _STRINGS)],
        "AuthConfig": [
            ("username", 1, "string"),
            ("password", 2, "string"),
            ("identity_token", 5, "string"),
            ("registry_token", 6, "string"),
        ],
        "PullImageRequest": [("image", 1, "ImageSpec"), ("auth", 2, "AuthConfig")],
        "PullImageResponse": [("image_ref", 1, "string")],
        "ImageFsInfoResponse": [("image_filesystems", 1, "repeated FilesystemUsage")],
    },
    "minik8s.cri",
)

RUNTIME_SERVICE = "runtime.v1.RuntimeService"
RUNTIME: Mapping[str, tuple[str, str]] = {
    "Version": ("VersionRequest", "VersionResponse"),
    "Status": ("VerboseRequest", "StatusResponse"),
    "RunPodSandbox": ("RunPodSandboxRequest", "PodSandboxId"),
    "StopPodSandbox": ("PodSandboxId", "Empty"),
    "RemovePodSandbox": ("PodSandboxId", "Empty"),
    "PodSandboxStatus": ("PodSandboxId", "PodSandboxStatusResponse"),
    "ListPodSandbox": ("Empty", "ListPodSandboxResponse"),
    "CreateContainer": ("CreateContainerRequest", "ContainerId"),
    "StartContainer": ("ContainerId", "Empty"),
    "StopContainer": ("StopContainerRequest", "Empty"),
    "RemoveContainer": ("ContainerId", "Empty"),
    "ListContainers": ("ListContainersRequest", "ListContainersResponse"),
    "ContainerStatus": ("ContainerStatusRequest", "ContainerStatusResponse"),
    "UpdateContainerResources": ("UpdateContainerResourcesRequest", "Empty"),
    "ReopenContainerLog": ("ContainerId", "Empty"),
    "ExecSync": ("ExecSyncRequest", "ExecSyncResponse"),
    "Exec": ("ExecRequest", "Url"),
    "Attach": ("AttachRequest", "Url"),
    "PortForward": ("PortForwardRequest", "Url"),
    "ListContainerStats": ("Empty", "ListContainerStatsResponse"),
    "GetContainerEvents": ("Empty", "stream ContainerEventResponse"),
}
IMAGE_SERVICE = "runtime.v1.ImageService"
IMAGES: Mapping[str, tuple[str, str]] = {
    "ListImages": ("Empty", "ListImagesResponse"),
    "ImageStatus": ("ImageRequest", "ImageStatusResponse"),
    "PullImage": ("PullImageRequest", "PullImageResponse"),
    "RemoveImage": ("ImageRequest", "Empty"),
    "ImageFsInfo": ("Empty", "ImageFsInfoResponse"),
}

CONTAINERD = messages(
    {
        "Empty": [],
        "Any": [("type_url", 1, "string"), ("value", 2, "bytes")],
        "SubscribeRequest": [("filters", 1, "repeated string")],
        "Envelope": [("namespace", 2, "string"), ("topic", 3, "string"), ("event", 4, "Any")],
        "TaskExit": [("container_id", 1, "string"), ("id", 2, "string")],
        "CreateLease": [("id", 1, "string"), ("labels", 3, _STRINGS)],
        "DeleteLease": [("id", 1, "string")],
        "WriteContentRequest": [
            ("action", 1, "int32"),
            ("ref", 2, "string"),
            ("total", 3, "int64"),
            ("expected", 4, "string"),
            ("offset", 5, "int64"),
            ("data", 6, "bytes"),
            ("labels", 7, _STRINGS),
        ],
        "WriteContentResponse": [("action", 1, "int32"), ("offset", 4, "int64")],
        "Descriptor": [("media_type", 1, "string"), ("digest", 2, "string"), ("size", 3, "int64")],
        "Image": [("name", 1, "string"), ("labels", 2, _STRINGS), ("target", 3, "Descriptor")],
        "SaveImage": [("image", 1, "Image")],  # Create and Update
    },
    "minik8s.containerd",
)

EVENTS = {"Subscribe": ("SubscribeRequest", "stream Envelope")}
LEASES = {"Create": ("CreateLease", "Empty"), "Delete": ("DeleteLease", "Empty")}
CONTENT = {"Write": ("stream WriteContentRequest", "stream WriteContentResponse")}
CONTAINERD_IMAGES = {"Create": ("SaveImage", "Empty"), "Update": ("SaveImage", "Empty")}

OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.default_authority", "localhost"),
)
