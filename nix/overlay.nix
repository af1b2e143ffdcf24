# For nixpkgs: `mvm`, and its library with these packages.
final: _: {
  mvm = final.callPackage ./package.nix { };
  mvmLib =
    let library = import ./.;
    in builtins.mapAttrs (_: build: build final) { inherit (library) buildApp buildCompose buildSystem fromDocker; }
    // { inherit (library) fromContainer; };
}
