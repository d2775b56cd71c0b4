// The judge of the Cardano ledger rules, driven over JSON lines: one request a line on stdin, one answer a line on stdout.
// It keeps a snapshot for every state it was asked to make and knows nothing of blocks, forks or Koios. It ends with its stdin.
// argv[2]: a file beside the node_modules folder that holds scalus.
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

const { Emulator, SlotConfig } = createRequire(process.argv[2])('scalus')
const states = []
const hex = bytes => Buffer.from(bytes).toString('hex')
const keep = state => states.push(state) - 1

const judge = (state, tx) => {
  try {
    const { isSuccess, txHash, error } = state.submitTx(Buffer.from(tx, 'hex'))
    return isSuccess ? { txid: txHash, error: '' } : { txid: '', error: error || 'refused' }
  } catch (error) { // what is no transaction at all is thrown, not answered
    return { txid: '', error: String(error) }
  }
}

const calls = {
  open: ({ address, lovelace }) => keep(Emulator.withAddresses([address], SlotConfig.preview, BigInt(lovelace))),
  apply: ({ state, slot, txs }) => {
    const next = states[state].snapshot() // a snapshot can change: never the kept one
    next.setSlot(slot)
    const verdicts = txs.map(tx => judge(next, tx))
    return { state: keep(next), verdicts }
  },
  utxos: ({ state, address }) =>
    (address ? states[state].getUtxosForAddress(address) : states[state].getAllUtxos()).map(hex),
}

for await (const line of createInterface({ input: process.stdin })) {
  const { call, ...args } = JSON.parse(line)
  process.stdout.write(JSON.stringify(calls[call](args)) + '\n')
}
