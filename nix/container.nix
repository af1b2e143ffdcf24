# `containers.<name>` of NixOS as fields of an app.json: the same system, as a machine.
let
  inherit (builtins) attrNames elem filter head;
  inherit (import ./values.nix) given;

  # What a machine has no counterpart of, and what to do instead. What loosens a container's walls needs none.
  refused = {
    macvlans = "connect it to a bridge (hostBridge)";
    interfaces = "the host keeps its network cards; connect it to a bridge (hostBridge)";
    extraVeths = "give `interfaces` of mvm's own";
    extraFlags = "they are systemd-nspawn's";
    tmpfs = "say it in the system's fileSystems";
    allowedDevices = "devices of the host do not reach a machine";
  };
  none = [ null [ ] { } ];

  # A card and its addresses: a bridge's port with a prefix, or one end of a network of two.
  card = name: c:
    let
      address = c.localAddress or null;
      address6 = c.localAddress6 or null;
      addresses = filter (value: value != null) [ address address6 ];
      mac = c.localMacAddress or null;
    in if (c.hostBridge or null) != null then given {
      type = "bridge";
      bridge = c.hostBridge;
      inherit addresses mac;
    } else if address != null && address6 != null
    then throw "mvm: containers.${name}: one of localAddress and localAddress6 is what a network of two has; use hostBridge"
    else given {
      type = "tap";
      hostAddress = if address6 == null then c.hostAddress or null else c.hostAddress6 or null;
      localAddress = if address6 == null then address else address6;
      inherit mac;
    };

  port = forward: {
    # systemd-nspawn forwards from all addresses of the host.
    address = "0.0.0.0";
    host = forward.hostPort;
    guest = if (forward.containerPort or null) == null then forward.hostPort else forward.containerPort;
    protocol = forward.protocol or "tcp";
  };

  share = binds: mountPoint:
    let
      bind = binds.${mountPoint};
      source = bind.hostPath or null;
      inside = bind.mountPoint or mountPoint;
    in { mountPoint = inside; source = if source == null then inside else source; readOnly = bind.isReadOnly or true; };
in name: c:
  let
    asked = filter (option: !(elem (c.${option} or null) none)) (attrNames refused);
    forwarded = map port (c.forwardPorts or [ ]);
    # Ports of the host are passt's to forward, so a machine with them has a card of that type as well.
    own = if c.privateNetwork or false then [ (card name c) ] else [ { type = "user"; } ];
    passt = if c.privateNetwork or false && forwarded != [ ] then [ { type = "user"; } ] else [ ];
    keeps = !(c.ephemeral or false);
  in if asked != [ ]
  then throw "mvm: containers.${name}.${head asked} is nothing that a machine can have: ${refused.${head asked}}"
  else given {
    inherit name;
    memory = "1G";
    system.path = "${c.path or c.config.system.build.toplevel}";
    interfaces = passt ++ own;
    ports = forwarded;
    shares = map (share (c.bindMounts or { })) (attrNames (c.bindMounts or { }));
    root = if keeps then { persist = "${name}-root"; } else null;
    volumes = if keeps then [ { name = "${name}-root"; size = "10G"; } ] else [ ];
  }
