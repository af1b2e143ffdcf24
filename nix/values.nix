# What Nix's own library would bring, of which this one takes nothing: it must evaluate without nixpkgs.
let
  inherit (builtins) attrNames elem filter head isAttrs isList isPath listToAttrs mapAttrs match removeAttrs;
in rec {
  isDerivation = value: isAttrs value && (value.type or null) == "derivation";

  # A section of a file, rather than something that becomes a store path.
  isSection = value: isAttrs value && !(isDerivation value) && !(value ? outPath);

  # Two sets of fields as one: sections are put together key by key, of all else the second wins.
  merge = under: over: under // mapAttrs (name: value:
    if isSection value && isSection (under.${name} or null) then merge under.${name} value else value) over;

  # Those fields that have a value.
  given = set: removeAttrs set (filter (name: elem set.${name} [ null [ ] { } ]) (attrNames set));

  # One value, or a list of them, as a list.
  list = value: if value == null then [ ] else if isList value then value else [ value ];

  # "A=b=c" is { A = "b=c"; }.
  variables = lines: listToAttrs (map (line:
    let parts = match "([^=]+)=(.*)" line;
    in if parts == null then throw "mvm: a variable is NAME=VALUE, not ${line}"
      else { name = head parts; value = builtins.elemAt parts 1; }) lines);

  lowerCase =
    let
      upper = [ "A" "B" "C" "D" "E" "F" "G" "H" "I" "J" "K" "L" "M" "N" "O" "P" "Q" "R" "S" "T" "U" "V" "W" "X" "Y" "Z" ];
      lower = [ "a" "b" "c" "d" "e" "f" "g" "h" "i" "j" "k" "l" "m" "n" "o" "p" "q" "r" "s" "t" "u" "v" "w" "x" "y" "z" ];
    in builtins.replaceStrings upper lower;

  # A machine's name of that of an image: registry.example/shop/Web_App is web-app.
  machineName = name: builtins.replaceStrings [ "_" "." ] [ "-" "-" ] (lowerCase (baseNameOf name));

  # The set, unless one of its names that has a value is refused: `refused` says what to do instead.
  ensureNone = what: refused: set:
    let asked = filter (name: !(elem (set.${name} or null) [ null false 0 "" [ ] { } ])) (attrNames refused);
    in if asked == [ ] then set else throw "mvm: ${what}.${head asked} is nothing that a machine can have: ${refused.${head asked}}";

  # Secrets as they are given, but for those that Nix would copy to where everybody reads them.
  secrets = mapAttrs (name: value:
    if isPath value || isPath (value.source or null)
    then throw "mvm: secrets.${name}: a path would be copied into the store, where all can read it; write it in quotes"
    else value);
}
