# The NixOS modules with what NixOS would bring: options to write to, and a configuration that uses theirs.
{ pkgs }:
let
  inherit (pkgs) lib;
  written = lib.mkOption { type = lib.types.attrsOf lib.types.anything; default = { }; };
  listed = lib.mkOption { type = lib.types.listOf lib.types.anything; default = [ ]; };
  evaluated = modules: (lib.evalModules { inherit modules; specialArgs = { inherit lib pkgs; }; }).config;

  # A host with these machines.
  hosted = vms: evaluated [
    { options = { environment.etc = written; environment.systemPackages = listed; systemd.services = written; }; }
    (import ../../nix/module.nix)
    { mvm.package = "/run/current-system/sw"; }
    { mvm.vms = builtins.mapAttrs (_: vm: { path = pkgs.fixture "system"; } // vm) vms; }
  ];

  host = evaluated [
    { options = { environment.etc = written; environment.systemPackages = listed; systemd.services = written; }; }
    (import ../../nix/module.nix)
    {
      mvm.package = "/run/current-system/sw";
      mvm.vms = {
        web = { package = pkgs.hello; app.args = [ "--greeting" "of a module" ]; memory = "64M"; };
        box = {
          config = { networking.hostName = "inner"; };
          ephemeral = true;
          autoStart = false;
          bindMounts."/srv" = { hostPath = "/var/tmp"; };
          memory = "512M";
          system.stopTimeout = "30s";
          limits.slice = "box.slice";
          # Of no meaning for a machine.
          enableTun = true;
          additionalCapabilities = [ "CAP_NET_ADMIN" ];
        };
        gone = { enable = false; package = pkgs.hello; };
      };
    }
    { mvm.vms.web.app.env.LANG = "C.UTF-8"; }
  ];

  # On mvm's kernel a system that brings none, and wants no store to be mounted by its own.
  guest = kernel: microvm: let toplevel = pkgs.fixture (if kernel == "own" then "system-own" else "system"); in evaluated [
    {
      options = {
        microvm = builtins.mapAttrs (_: default: lib.mkOption { type = lib.types.anything; inherit default; }) ({
          vcpu = 2; mem = 512; storeOnDisk = false; kernelParams = [ "loglevel=4" "quiet" "init=${toplevel}/init" ];
          shares = [ { source = "/nix/store"; mountPoint = "/nix/.ro-store"; tag = "ro-store"; proto = "virtiofs"; } ];
          volumes = [ ]; interfaces = [ ]; forwardPorts = [ ]; devices = [ ]; preStart = "echo before";
          binScripts = { microvm-run = "false"; tap-up = "echo up"; }; runner = { }; declaredRunner = null;
        } // microvm);
        networking.hostName = lib.mkOption { type = lib.types.anything; default = "guest"; };
        boot.kernelParams = lib.mkOption { type = lib.types.anything; default = [ "loglevel=4" ]; };
        system.build.toplevel = lib.mkOption { type = lib.types.anything; default = toplevel; };
        assertions = listed;
      };
    }
    (import ../../nix/microvm.nix)
    { microvm.mvm.labels.tier = "test"; }
    { microvm.mvm.system.kernel = kernel; }
  ];
  failed = config: map (one: one.message) (builtins.filter (one: !one.assertion) config.assertions);
in {
  web = pkgs.runCommand "web" { } "mkdir $out; ln -s ${host.environment.etc."mvm/web.json".source} $out/app.json";
  box = pkgs.runCommand "box" { } "mkdir $out; ln -s ${host.environment.etc."mvm/box.json".source} $out/app.json";
  etc = builtins.attrNames host.environment.etc;
  services = host.systemd.services;
  runner = (guest "mvm" { }).microvm.declaredRunner;
  complaints = failed (guest "own" {
    storeOnDisk = true;
    shares = [ { source = "/srv"; mountPoint = "/srv"; tag = "srv"; proto = "9p"; } ];
    interfaces = [ { type = "macvtap"; id = "m0"; mac = "02:00:00:00:00:01"; } ];
  });
  unlike = failed (guest "own" {
    volumes = [ { image = "a.img"; mountPoint = "/a"; size = 64; fsType = "ext4"; readOnly = false; autoCreate = true;
      label = "a"; serial = "a"; imageType = "qcow2"; mkfsExtraArgs = [ "-L" "a" ]; } ];
    forwardPorts = [ { from = "guest"; proto = "tcp"; host = { address = ""; port = 1; }; guest = { address = ""; port = 1; }; } ];
    devices = [ { bus = "pci"; path = "0000:01:00.0"; } ];
    graphics.enable = true;
    vsock.ssh.enable = true;
    hotplugMem = 512;
    extraArgsScript = "echo";
  });
  refused = (hosted { system.tmpfs = [ "/tmp" ]; }).environment.etc;
  connected = (guest "own" {
    interfaces = [ { type = "tap"; id = "vm0"; mac = "02:00:00:00:00:01"; } { type = "user"; id = "u"; mac = "02:00:00:00:00:02"; } ];
    forwardPorts = [ { from = "host"; proto = "tcp"; host = { address = ""; port = 2222; }; guest = { address = ""; port = 22; }; } ];
    volumes = [ { image = "var.img"; mountPoint = "/var"; size = 64; fsType = "ext4"; readOnly = false; autoCreate = true; label = null; } ];
  }).microvm.declaredRunner;
}
