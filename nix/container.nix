# `containers.<name>` of NixOS as fields of an app.json: the same system, as a machine.
let
  inherit (builtins) attrNames concatStringsSep elem filter head;
  inherit (import ./values.nix) ensureNone given;

  # What a machine has no counterpart of, and what to do instead.
  refused = {
    macvlans = "connect it to a bridge (hostBridge)";
    interfaces = "the host keeps its network cards; connect it to a bridge (hostBridge)";
    extraVeths = "give `interfaces` of mvm's own";
    extraFlags = "they are systemd-nspawn's";
    tmpfs = "say it in the system's fileSystems";
    allowedDevices = "devices of the host do not reach a machine";
    networkNamespace = "connect it to a bridge (hostBridge)";
    flake = "give the system that it makes as `path`";
    nixpkgs = "give the system that it makes as `path`";
  };
  taken = [
    "path" "config" "ephemeral" "privateNetwork" "hostBridge" "hostAddress" "hostAddress6" "localAddress" "localAddress6"
    "localMacAddress" "forwardPorts" "bindMounts"
  ];
  # What loosens or tightens a container's walls, and what is its unit's or its evaluation's.
  idle = [
    "additionalCapabilities" "enableTun" "privateUsers" "autoStart" "restartIfChanged" "timeoutStartSec" "specialArgs"
  ];

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
in {
  inherit refused idle;

  # The fields of a machine of that name.
  fields = name: c: let
    unknown = filter (option: !(elem option (taken ++ idle ++ attrNames refused))) (attrNames c);
    forwarded = map port (c.forwardPorts or [ ]);
    # Ports of the host are passt's to forward, so a machine with them has a card of that type as well.
    own = if c.privateNetwork or false then [ (card name c) ] else [ { type = "user"; } ];
    passt = if c.privateNetwork or false && forwarded != [ ] then [ { type = "user"; } ] else [ ];
    keeps = !(c.ephemeral or false);
  in if unknown != [ ]
  then throw "mvm: containers.${name}.${head unknown} is no option of a container; there are ${concatStringsSep ", " taken}"
  else builtins.seq (ensureNone "containers.${name}" refused c) (given {
    inherit name;
    memory = "1G";
    system.path = "${c.path or c.config.system.build.toplevel}";
    interfaces = passt ++ own;
    ports = forwarded;
    shares = map (share (c.bindMounts or { })) (attrNames (c.bindMounts or { }));
    root = if keeps then { persist = "${name}-root"; } else null;
    volumes = if keeps then [ { name = "${name}-root"; size = "10G"; } ] else [ ];
  });
}
