# A guest of microvm.nix, run by mvm: import it beside microvm.nixosModules.microvm. A runner is a package whose files
# have certain names, and `declaredRunner` an ordinary option, so nothing there is patched.
#
# The one thing to know: mvm serves /nix/store and other shares itself, so no virtiofsd runs for such a guest.
{ config, lib, pkgs, ... }:
let
  inherit (import ./values.nix) given;
  mvm = import ./.;
  m = config.microvm;
  name = config.networking.hostName;
  toplevel = "${config.system.build.toplevel}";
  program = "${pkgs.mvm}/bin/mvm";

  interface = i: given {
    inherit (i) type mac;
    hostName = if i.type == "user" then null else i.id;
    bridge = if i.type == "bridge" then i.bridge else null;
  };
  volume = v: given {
    inherit (v) image fsType readOnly mountPoint;
    size = "${toString v.size}M";
    create = v.autoCreate;
  };
  share = s: { inherit (s) source mountPoint tag; readOnly = s.readOnly or false; };
  port = p: {
    host = p.host.port;
    guest = p.guest.port;
    protocol = p.proto;
    address = if p.host.address == "" then "0.0.0.0" else p.host.address;
  };

  # What the system's own parameters do not say already.
  isOwn = parameter: !(builtins.elem parameter config.boot.kernelParams) && !(lib.hasPrefix "init=" parameter);

  fields = mvm.merge (given {
    inherit name;
    vcpus = m.vcpu;
    memory = m.mem;
    system = { path = toplevel; kernel = "own"; };
    kernel = given { cmdline = lib.concatStringsSep " " (builtins.filter isOwn m.kernelParams); };
    shares = map share (builtins.filter (s: s.source != "/nix/store") m.shares);
    volumes = map volume m.volumes;
    interfaces = map interface m.interfaces;
    ports = map port (builtins.filter (p: p.from == "host") m.forwardPorts);
    secrets = lib.mapAttrs (_: source: { inherit source; }) (m.credentialFiles or { });
    ready = "notify";
  }) m.mvm;
  file = pkgs.writeText "${name}.json" (builtins.toJSON fields);

  # In the folder that microvm@.service starts it in: relative images are there, as those of standard input are, and so
  # is the machine.
  run = pkgs.writeShellScript "microvm-run" ''
    set -eu
    ${m.preStart}
    export MVM_HOME="$PWD/mvm"
    exec ${program} run - <${file}
  '';
  shutdown = pkgs.writeShellScript "microvm-shutdown" ''
    export MVM_HOME="$PWD/mvm"
    exec ${program} stop ${name}
  '';
  others = removeAttrs (m.binScripts or { })
    [ "microvm-run" "microvm-shutdown" "microvm-balloon" "virtiofsd-run" "virtiofsd-reload" "virtiofsd-shutdown" ];

  taps = map (i: i.id) (builtins.filter (i: i.type == "tap") m.interfaces);
  facts = {
    canShutdown = true;
    supportsNotifySocket = true;
    tapMultiQueue = false;
    hypervisor = "mvm";
    registerWithMachined = false;
    machineId = m.machineId or null;
  };
  runner = pkgs.runCommand "microvm-mvm-${name}" { passthru = facts // { inherit fields; }; } ''
    mkdir -p $out/bin $out/share/microvm
    ln -s ${run} $out/bin/microvm-run
    ln -s ${shutdown} $out/bin/microvm-shutdown
    ${lib.concatStringsSep "\n" (lib.mapAttrsToList (called: text:
      "ln -s ${pkgs.writeShellScript called text} $out/bin/${called}") others)}
    ln -s ${file} $out/share/microvm/app.json
    ln -s ${toplevel} $out/share/microvm/system
    echo mvm >$out/share/microvm/hypervisor
    echo vnet_hdr >$out/share/microvm/tap-flags
    ${lib.concatStringsSep "\n" (map (tap: "echo ${tap} >>$out/share/microvm/tap-interfaces") taps)}
  '';

  demand = assertion: message: { inherit assertion; message = "mvm: microvm.${message}"; };
in {
  options.microvm.mvm = lib.mkOption {
    type = lib.types.attrsOf lib.types.anything;
    default = { };
    description = "Fields of app.json, which win over what these options come to: ports, limits, a healthcheck.";
  };
  config = {
    microvm.runner.mvm = runner;
    microvm.declaredRunner = runner;
    assertions = [
      (demand (!m.storeOnDisk) "shares: mvm serves the store, which needs one with source = \"/nix/store\"")
      (demand (builtins.all (s: s.proto == "virtiofs") m.shares) "shares: proto must be \"virtiofs\"")
      (demand (builtins.all (i: i.type != "macvtap") m.interfaces) "interfaces: type must be user, tap or bridge")
      (demand (builtins.all (v: (v.label or null) == null) m.volumes) "volumes: a label is nothing that mvm gives")
      (demand (builtins.all (v: (v.serial or null) == null) m.volumes) "volumes: serials are mvm's: volume0 and so on")
      (demand (builtins.all (v: (v.imageType or "raw") == "raw") m.volumes) "volumes: imageType must be \"raw\"")
      (demand (builtins.all (v: (v.mkfsExtraArgs or [ ]) == [ ]) m.volumes) "volumes: mkfsExtraArgs reach no mkfs")
      (demand (builtins.all (p: p.from == "host") m.forwardPorts) "forwardPorts: from must be \"host\"")
      (demand (m.devices == [ ]) "devices: devices of the host do not reach a machine")
      (demand (!(m.graphics.enable or false)) "graphics: a machine has no screen")
      (demand (!(m.vsock.ssh.enable or false)) "vsock.ssh: `mvm shell` and `mvm login` need no sshd")
      (demand ((m.hotplugMem or 0) == 0) "hotplugMem: a machine has the memory that it starts with")
      (demand ((m.extraArgsScript or null) == null) "extraArgsScript: give fields of app.json in `microvm.mvm`")
    ];
  };
}
