"""OpenFlow 1.4 as Ryu or os-ken encodes it."""

from controller.framework import RYU

if RYU:
    from ryu.lib import type_desc
    from ryu.ofproto import nx_actions, ofproto_v1_4, ofproto_v1_4_parser, oxm_fields
else:
    from os_ken.lib import type_desc
    from os_ken.ofproto import nx_actions, ofproto_v1_4, ofproto_v1_4_parser, oxm_fields

__all__ = ["nx_actions", "ofproto_v1_4", "ofproto_v1_4_parser", "oxm_fields", "type_desc"]
