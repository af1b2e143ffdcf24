# What `<nixpkgs/nixos>` is: the system of the configuration that <nixos-config> names. It is the fixtures', under the
# name of its host, by a build that says so.
{ configuration ? <nixos-config> }:
let
  pkgs = import ../pkgs.nix;
  inherit (import ./lib/eval-config.nix { modules = [ (import configuration) ]; }) config;
in {
  system = pkgs.runCommand "nixos-system-${config.networking.hostName}-25.11" { } ''
    echo "building the system of ${config.networking.hostName}" >&2
    cp -r ${config.system.build.toplevel} $out
  '';
}
