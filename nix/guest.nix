# What a NixOS configuration says to be a system of mvm's: no boot loader, no disk, and cards that are set up already.
{ lib, ... }: {
  boot.loader.grub.enable = lib.mkDefault false;
  fileSystems."/" = lib.mkDefault { device = "root"; fsType = "tmpfs"; options = [ "mode=755" ]; };
  networking.useDHCP = lib.mkDefault false;
}
