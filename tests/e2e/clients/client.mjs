// The official Node client at work (test_node.py runs it): typed objects, an informer, custom objects, server-side apply.
// Arguments: the path of @kubernetes/client-node's module, a namespace. Prints one JSON value.
import assert from 'node:assert/strict'
import { pathToFileURL } from 'node:url'

const [, , library, namespace] = process.argv
const { KubeConfig, CoreV1Api, AppsV1Api, CustomObjectsApi, KubernetesObjectApi, ApiException, PatchStrategy, makeInformer } =
  await import(pathToFileURL(library).href)

const config = new KubeConfig()
config.loadFromDefault()
const core = config.makeApiClient(CoreV1Api)
const seen = []

const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: 'by=node' })
const informer = makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, list, 'by=node')
const deleted = new Promise((resolve) => informer.on('delete', (obj) => resolve(seen.push(['delete', obj.metadata.name, obj.data.n]))))
informer.on('add', (obj) => seen.push(['add', obj.metadata.name, obj.data.n]))
const updated = new Promise((resolve) => informer.on('update', (obj) => resolve(seen.push(['update', obj.metadata.name, obj.data.n]))))
await informer.start()

const name = 'a'
const body = { metadata: { name, labels: { by: 'node' } }, data: { n: '1' } }
const made = await core.createNamespacedConfigMap({ namespace, body })
assert.ok(made.metadata.creationTimestamp instanceof Date)
await core.replaceNamespacedConfigMap({ name, namespace, body: { ...made, data: { n: '2' } } })
await updated
await assert.rejects(core.replaceNamespacedConfigMap({ name, namespace, body: made }), (error) => error instanceof ApiException && error.code === 409)
await core.deleteNamespacedConfigMap({ name, namespace })
await deleted
await informer.stop()

const where = { group: 'clients.example.com', version: 'v1', namespace, plural: 'widgets' }
const widget = { apiVersion: 'clients.example.com/v1', kind: 'Widget', metadata: { name: 'w' }, spec: { size: 2 } }
const custom = config.makeApiClient(CustomObjectsApi)
const stored = await custom.createNamespacedCustomObject({ ...where, body: widget })
assert.equal((await custom.listNamespacedCustomObject(where)).items.length, 1)

const objects = KubernetesObjectApi.makeApiClient(config)
const template = { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'c', image: 'nginx' }] } }
const deployment = {
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web', namespace },
  spec: { replicas: 2, selector: { matchLabels: { app: 'web' } }, template },
}
await objects.patch(deployment, undefined, undefined, 'node', false, PatchStrategy.ServerSideApply)
const apps = config.makeApiClient(AppsV1Api)
const found = await apps.readNamespacedDeployment({ name: 'web', namespace })

console.log(JSON.stringify({ seen, color: stored.spec.color, replicas: found.spec.replicas, manager: found.metadata.managedFields[0].manager }))
