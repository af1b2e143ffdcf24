# What `import <nixpkgs>` calls.
{ system, overlays }:
assert system == "x86_64-linux";
(import ./pkgs.nix).extend (builtins.head overlays)
