// An MCP server over standard input and output, of Node's own modules.
import readline from "node:readline";

const TOOLS = ["where", "count", "die"].map((name) => ({
  name, description: `It can ${name}.`, inputSchema: { type: "object" },
}));
const say = (message) => console.log(JSON.stringify({ jsonrpc: "2.0", ...message }));

console.log("this line is no message");
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) return;
  let result;
  if (method === "initialize") {
    const serverInfo = { name: "node", version: "1" };
    const { protocolVersion } = params;
    result = { protocolVersion, capabilities: { tools: {} }, serverInfo };
  } else if (method === "tools/list") {
    result = { tools: TOOLS };
  } else if (method === "tools/call") {
    if (params.name === "die") process.exit(3);
    if (params.name === "count") {
      const progressToken = params._meta?.progressToken;
      for (const progress of [1, 2]) {
        say({ method: "notifications/progress", params: { progressToken, progress, total: 2 } });
      }
    }
    const found = { node: process.version, arguments: process.argv.slice(2) };
    result = { content: [{ type: "text", text: JSON.stringify(found) }] };
  } else {
    say({ id, error: { code: -32601, message: "Method not found" } });
    return;
  }
  say({ id, result });
});
