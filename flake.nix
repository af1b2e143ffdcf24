{
  description = "Runs a program in its own Linux virtual machine, with the host's Nix store shared";

  # No inputs: all is made of the caller's nixpkgs, so nothing is added to a lock file, and all of this evaluates offline.
  outputs = { self }: {
    lib = import ./nix;
    overlays.default = import ./nix/overlay.nix;
    nixosModules = {
      default.imports = [ ./nix/module.nix ];
      guest.imports = [ ./nix/guest.nix ];
      microvm.imports = [ ./nix/microvm.nix ];
    };
    templates.default = {
      path = ./nix/template;
      description = "A program of nixpkgs as a machine";
    };

    # Of the nixpkgs in NIX_PATH, which is looked at with --impure alone; without it the overlay is the way.
    packages =
      if builtins ? currentSystem
      then { x86_64-linux.default = (import <nixpkgs> { system = "x86_64-linux"; overlays = [ self.overlays.default ]; }).mvm; }
      else { };
  };
}
