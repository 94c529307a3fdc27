// The client package lies in the folder above and is linked. Metro has to watch it, and what it imports (react, the modules of
// Expo) has to come from this app: two copies of react would not see each other's hooks.
const path = require("node:path");
const { getDefaultConfig } = require("expo/metro-config");

const app = __dirname;
const client = path.resolve(app, "..");
const built = path.join(client, "dist") + path.sep;

const config = getDefaultConfig(app);
config.watchFolders = [path.join(client, "dist")];
config.resolver.unstable_enablePackageExports = true;
config.resolver.nodeModulesPaths = [path.join(app, "node_modules")];

const exported = require(path.join(client, "package.json")).exports;

config.resolver.resolveRequest = (context, name, platform) => {
  // The package by the same `exports` that everybody else gets.
  if (name === "@members-book/client" || name.startsWith("@members-book/client/")) {
    const entry = exported[`.${name.slice("@members-book/client".length)}`];
    if (!entry?.default) throw new Error(`${name} is not exported`);
    return { type: "sourceFile", filePath: path.resolve(client, entry.default) };
  }
  const foreign = context.originModulePath.startsWith(built) && !name.startsWith(".") && !path.isAbsolute(name);
  return context.resolveRequest(foreign ? { ...context, originModulePath: path.join(app, "package.json") } : context, name, platform);
};

module.exports = config;
