// `basePath` is fixed when the site is built, so each prefix is a build of its own.
export default {
  basePath: process.env.BASE_PATH ?? "",
};
