{
  description = "A program of nixpkgs as a machine: nix run .#web";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    # Where this template came from.
    mvm.url = "path:/path/to/mvm";
  };

  outputs = { self, nixpkgs, mvm }:
    let pkgs = nixpkgs.legacyPackages.x86_64-linux.extend mvm.overlays.default;
    in {
      packages.x86_64-linux.web = mvm.lib.buildApp pkgs {
        name = "web";
        memory = "128M";
        config.Entrypoint = [ "${pkgs.darkhttpd}/bin/darkhttpd" "${./www}" "--port" "8080" ];
        ports = [ "8080:8080" ];
        healthcheck = { http.port = 8080; interval = "10s"; startPeriod = "30s"; };
      };
    };
}
