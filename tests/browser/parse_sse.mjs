// What the parser of npm's eventsource makes of streams. Standard input: a JSON list of
// {"pieces": [base64, …]}; standard output: for each, [[event, data, id], …].
import { createParser } from 'eventsource-parser'

const chunks = []
for await (const chunk of process.stdin) chunks.push(chunk)

const answers = JSON.parse(Buffer.concat(chunks).toString('utf8')).map(({ pieces }) => {
  const events = []
  const parser = createParser({
    onEvent: ({ event, data, id }) => events.push([event ?? 'message', data, id ?? null]),
  })
  const decoder = new TextDecoder() // drops a byte order mark, as eventsource has it do
  for (const piece of pieces) parser.feed(decoder.decode(Buffer.from(piece, 'base64'), { stream: true }))
  return events
})
process.stdout.write(JSON.stringify(answers))
