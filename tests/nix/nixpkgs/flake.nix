{
  description = "Stands in for nixpkgs: its flake's outputs, of the fixtures";
  outputs = { self }: { legacyPackages.x86_64-linux = import ./pkgs.nix; };
}
