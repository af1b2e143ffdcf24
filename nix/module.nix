# NixOS: `mvm.vms.<name>` are machines as services of the host. Their options are the arguments of buildApp, each field of
# app.json among them, or those of `containers.<name>`, with which a system is described.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkIf mkOption types;
  mvm = import ./.;
  # `interfaces` are a machine's own.
  containers = let all = import ./container.nix; in all // { refused = removeAttrs all.refused [ "interfaces" ]; };
  cfg = config.mvm;

  containerOptions = {
    path = "A system that is built already.";
    ephemeral = "Whether what it writes is gone when it ends.";
    privateNetwork = "Whether it has a network of its own with the host, and no way out.";
    hostBridge = "The bridge of the host that it is a port of.";
    hostAddress = "The host's address in the network of two.";
    hostAddress6 = "The same, of IPv6.";
    localAddress = "The machine's address there.";
    localAddress6 = "The same, of IPv6.";
    localMacAddress = "Its hardware address.";
    forwardPorts = "Ports of the host that lead to it.";
    bindMounts = "Folders of the host that it sees.";
  };
  ownOptions = [ "enable" "autoStart" "restartIfChanged" "config" "specialArgs" ];

  # A configuration as `containers.<name>.config` has it: one module, or several that are put together.
  evaluated = name: specialArgs: modules: import (pkgs.path + "/nixos/lib/eval-config.nix") {
    modules = [
      ./guest.nix
      {
        networking.hostName = lib.mkDefault name;
        nixpkgs.hostPlatform = lib.mkDefault pkgs.stdenv.hostPlatform.system;
      }
    ] ++ modules;
    prefix = [ "mvm" "vms" name "config" ];
    inherit specialArgs;
    system = null;
  };

  vm = { name, config, ... }: {
    freeformType = types.attrsOf types.anything;
    options = {
      enable = mkOption { type = types.bool; default = true; description = "Whether it is there."; };
      autoStart = mkOption { type = types.bool; default = true; description = "Whether it starts with the host."; };
      restartIfChanged = mkOption {
        type = types.bool;
        default = true;
        description = "Whether a switch of the host's configuration that changes it starts it again.";
      };
      specialArgs = mkOption { type = types.attrsOf types.unspecified; default = { }; description = "For its `config`."; };
      config = mkOption {
        type = types.nullOr (lib.mkOptionType {
          name = "NixOS configuration";
          merge = _: definitions: evaluated name config.specialArgs (map (one: one.value) definitions);
        });
        default = null;
        description = "A NixOS configuration to run.";
      };
    } // builtins.mapAttrs (_: description: mkOption { type = types.anything; default = null; inherit description; })
      containerOptions;
  };

  isSet = _: value: value != null;
  machine = name: v:
    let
      theirs = lib.filterAttrs isSet (builtins.intersectAttrs (containerOptions // containers.refused) v);
      system = if v.config == null then { } else { path = v.config.config.system.build.toplevel; };
      container = theirs // system;
      own = removeAttrs v (builtins.attrNames (containerOptions // containers.refused) ++ containers.idle ++ ownOptions
        ++ [ "_module" ]);
    in
    if container ? path then mvm.buildApp pkgs (mvm.merge (mvm.fromContainer name container) own)
    else if container == { } then mvm.buildApp pkgs ({ inherit name; } // own)
    else throw "mvm.vms.${name}: ${builtins.head (builtins.attrNames container)} is a system's; it needs `config` or `path`";

  machines = lib.mapAttrs machine (lib.filterAttrs (_: v: v.enable) cfg.vms);

  # As mvm@.service, which `make install` brings.
  service = name: built: lib.nameValuePair "mvm-${name}" {
    description = "Machine ${name}";
    wants = [ "network-online.target" ];
    after = [ "network-online.target" ];
    wantedBy = lib.optional cfg.vms.${name}.autoStart "multi-user.target";
    inherit (cfg.vms.${name}) restartIfChanged;
    serviceConfig = {
      ExecStart = "${cfg.package}/bin/mvm run ${built.file}";
      Type = "notify";
      NotifyAccess = "main";
      # The program gets its stop signal from mvm; what is left after the time, all of it.
      KillMode = "mixed";
      TimeoutStartSec = 180;
      TimeoutStopSec = 30;
      # Ended by that SIGTERM it has done as it was told. 125 is mvm's own: the next start would fail likewise.
      SuccessExitStatus = 143;
      Restart = "on-failure";
      RestartSec = 1;
      RestartPreventExitStatus = 125;
      # mvm makes a control group for the limits of app.json below the unit's own.
      Delegate = true;
      DevicePolicy = "closed";
      DeviceAllow = [ "/dev/kvm rw" "/dev/net/tun rw" ];
    } // lib.optionalAttrs (built.fields ? limits.slice) { Slice = built.fields.limits.slice; };
  };
in {
  options.mvm = {
    package = mkOption { type = types.package; default = pkgs.mvm; description = "The mvm that runs them."; };
    vms = mkOption { type = types.attrsOf (types.submodule vm); default = { }; description = "Machines, by name."; };
  };
  config = mkIf (machines != { }) {
    environment.systemPackages = [ cfg.package ];
    # For people to look at; the units name the store's.
    environment.etc = lib.mapAttrs' (name: built: lib.nameValuePair "mvm/${name}.json" { source = built.file; }) machines;
    systemd.services = lib.mapAttrs' service machines;
  };
}
