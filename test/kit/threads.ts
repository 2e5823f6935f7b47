/** Work on other threads: files, a file that is being closed, and what is compressed. A write that nobody reads is none. */
const work = /^(FSReq|CloseReq$|Zlib$)/;

/** Whether something is under way that will end by itself, whatever time it is in a simulated world. */
export function threadsBusy(): boolean {
  return process.getActiveResourcesInfo().some((name) => work.test(name));
}
