# Stands in for the part of nixpkgs' `lib` that nix/ uses: options, submodules, and that mkDefault gives way. It has no
# `imports`, no messages with files, and merges by few types.
let
  inherit (builtins) attrNames concatMap elem filter foldl' head isAttrs isFunction isList listToAttrs mapAttrs;

  optionalAttrs = condition: set: if condition then set else { };
  filterAttrs = keep: set: removeAttrs set (filter (name: !(keep name set.${name})) (attrNames set));
  mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  nameValuePair = name: value: { inherit name value; };
  unique = foldl' (seen: one: if elem one seen then seen else seen ++ [ one ]) [ ];

  isMark = kind: value: isAttrs value && (value._type or null) == kind;
  mkOption = option: option // { _type = "option"; };
  mkIf = condition: content: { _type = "if"; inherit condition content; };
  mkDefault = content: { _type = "default"; inherit content; };

  # The definitions that count: those of mkDefault only where there is no other.
  winners = definitions:
    let
      shown = concatMap (d: if isMark "if" d then (if d.condition then [ d.content ] else [ ]) else [ d ]) definitions;
      plain = filter (d: !(isMark "default" d)) shown;
    in if plain == [ ] then map (d: d.content) shown else plain;

  equal = place: values:
    if builtins.all (value: value == head values) values then head values
    else throw "${place}: defined twice, and not the same";
  type = name: check: merge: { inherit name check merge; };
  # Attribute by attribute, of one type.
  byName = inner: place: values: listToAttrs (map (name:
    let given = winners (map (value: value.${name}) (filter (value: value ? ${name}) values));
    in nameValuePair name (merged inner "${place}.${name}" given)) (unique (concatMap attrNames values)));
  merged = kind: place: values:
    if builtins.all kind.check values then kind.merge place values else throw "${place}: is not of type ${kind.name}";

  types = rec {
    anything = type "anything" (_: true) (place: values:
      if builtins.length values > 1 && builtins.all isAttrs values then byName anything place values else equal place values);
    unspecified = anything;
    bool = type "boolean" builtins.isBool equal;
    package = type "package" (value: builtins.isString value || isAttrs value) equal;
    nullOr = inner: type "null or ${inner.name}" (value: value == null || inner.check value)
      (place: values: if elem null values then equal place values else inner.merge place values);
    listOf = inner: type "list of ${inner.name}" isList (_: builtins.concatLists);
    attrsOf = inner: type "attribute set of ${inner.name}" isAttrs (byName inner);
    submodule = module: type "submodule" isAttrs (place: values:
      evaluate place { name = baseNameOf (builtins.replaceStrings [ "." ] [ "/" ] place); } module values);
  };

  # Values of a module's options: what is set, else the default.
  evaluate = place: arguments: module: definitions:
    let
      declared = (if isFunction module then module (arguments // { config = values; }) else module);
      options = declared.options or { };
      all = winners (definitions ++ (if declared ? config then [ declared.config ] else [ ]));
      free = map (d: removeAttrs d (attrNames options)) all;
      unknown = concatMap attrNames free;
      values = tree place options all // (
        if declared ? freeformType then declared.freeformType.merge place free
        else if unknown == [ ] then { } else throw "${place}.${head unknown}: there is no such option");
    in values;

  # A condition goes to each attribute: it may ask for others of the same set.
  pushed = d: if isMark "if" d then mapAttrs (_: mkIf d.condition) (pushed d.content) else d;

  tree = place: options: definitions: mapAttrs (name: option:
    let
      below = "${place}.${name}";
      given = concatMap (d: if d ? ${name} then [ d.${name} ] else [ ]) (map pushed definitions);
      counted = winners given;
    in
    if !(isMark "option" option) then tree below option given
    else if counted != [ ] then merged option.type below counted
    else option.default or (throw "${below}: is used, and not defined")) options;
in {
  inherit filterAttrs mapAttrs mapAttrsToList mkDefault mkIf mkOption nameValuePair optionalAttrs types;
  importTOML = file: builtins.fromTOML (builtins.readFile file);
  cleanSource = path: path;
  cleanSourceWith = { src, filter }: builtins.path { path = src; inherit filter; name = "source"; };
  makeBinPath = packages: builtins.concatStringsSep ":" (map (package: "${package}/bin") packages);
  licenses.asl20 = "Apache-2.0";
  mapAttrs' = f: set: listToAttrs (mapAttrsToList f set);
  optional = condition: one: if condition then [ one ] else [ ];
  concatStringsSep = builtins.concatStringsSep;
  hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
  mkOptionType = { name, check ? (_: true), merge }: type name check
    (place: values: merge place (map (value: { inherit value; file = "a test"; }) values));

  # The configuration of modules, each a function or a set; options of all are put together.
  evalModules = { modules, specialArgs }:
    let
      called = map (module: if isFunction module then module (specialArgs // { inherit config; }) else module) modules;
      options = foldl' deep { } (map (module: module.options or { }) called);
      deep = a: b: a // mapAttrs (name: value:
        if a ? ${name} && !(isMark "option" value) then deep a.${name} value else value) b;
      definitions = map (module: if module ? options || module ? config then module.config or { } else module) called;
      config = tree "config" options definitions;
    in { inherit config; };
}
