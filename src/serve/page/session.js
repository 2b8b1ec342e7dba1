// Who asks: what the token allows, and the form that asks for one.

import { get, postJson } from './api.js'
import { failure, h, put } from './dom.js'

let session = { tokens: false, access: 'write' }

/** Asks what may be done. */
export async function loadSession() {
  session = await get('/v1/session')
  return session
}

/** Whether who asks may change something. */
export const mayWrite = () => session.access === 'write'

/** Why not. */
export const whyNot = () => (mayWrite() ? undefined : 'this token may only read')

/** Whether somebody has logged in. */
export const hasTokens = () => session.tokens

/** Shows the form, and calls `then` when somebody has logged in. */
export function login(root, then) {
  const [told, secret] = [h('div'), h('input', { type: 'password', id: 'token', autocomplete: 'current-password', required: true })]
  const submit = async (event) => {
    event.preventDefault()
    try {
      session = await postJson('/v1/login', { token: secret.value })
      then()
    } catch (error) {
      put(told, failure(error))
      secret.select()
    }
  }
  put(
    root,
    h(
      'form',
      { class: 'card login', onsubmit: submit },
      h('h1', null, 'retally'),
      h('p', { class: 'muted' }, 'This service wants to know who asks.'),
      h('label', { for: 'token' }, 'Token'),
      secret,
      h('button', { type: 'submit', class: 'primary' }, 'Log in'),
      told,
    ),
  )
  secret.focus()
}

/** Ends the session. */
export async function logout() {
  await postJson('/v1/logout', {})
  location.reload()
}
