# Where nixpkgs has NixOS' eval-config.nix: takes the modules and answers with the fixtures' system. Of what they say it
# knows the host's name alone, as literal sets have it.
{ modules, specialArgs ? { }, prefix ? [ ], system ? null }:
let
  all = module:
    if builtins.isAttrs module then [ module ] ++ builtins.concatMap all (module.imports or [ ]) else [ ];
  named = builtins.filter (module: builtins.isString (module.networking.hostName or null)) (builtins.concatMap all modules);
in {
  config = {
    networking.hostName = if named == [ ] then "nixos" else (builtins.head named).networking.hostName;
    system.build.toplevel = (import ../../pkgs.nix).fixture "system";
  };
}
